max(o,key=lambda e:sum((w[:4]in x)*(-1)**(w in'wanted happy big')for w in re.findall(r'\w{5,}|big',e))+2*(' a 'in x[-40:])*(' it'in e)+2*sum(n in e for n in re.findall(r'named (\w+)',x)))
