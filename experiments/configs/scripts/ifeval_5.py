r=sorted(re.findall(r'(?:rd|r|h|[rbkm]e|is|ay) (\w+)(?:.an| th|[.])',x))
w=x.split()
f'"{r}{w[::-1]}.\na a a a a a a a a.\n{w}{r}?"'
