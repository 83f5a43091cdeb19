w=x.split()[:-1]
f'"{re.findall(".*[a-z] ([A-Z][a-z]+)",x)}{w[::-1]}.\na a a a a a a a a.\n{w}?"'
