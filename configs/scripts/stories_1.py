max(o,key=lambda e:sum(n in e for n in re.findall(r'ed ([A-Z]\w+)',x)))
