max(o,key=lambda e:sum(w in x for w in re.findall(r'he (\w{4})',e)))
