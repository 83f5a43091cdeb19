r=sorted(re.findall(r'(?:rd|r|h|[rbkm]e|is|ay) (\w+)(?:.an| th|[.])',x))
w=x.split()
f'"{r}{w[::-1]}.\na{["a "*(int(v,35)%181%8+5)for v in re.findall(" (..)[^ ]+ words",x)]}.\n{w}{r}?"'
