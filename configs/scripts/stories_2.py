max(o,key=lambda e:(' a 'in x[-40:])*(' it'in e)+sum(n in e for n in re.findall(r'ed ([A-Z]\w+)',x)))
