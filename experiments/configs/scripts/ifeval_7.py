r=sorted(re.findall(r'(?:ke|h the word|Say|d after|[dn] with|[rbm]e|is) (\w+)(?:.an|\.| the)',x))
w=x.split()
f'"{r}{w[::-1]}.\na{["a "*(int(v,35)%181%8+5)for v in re.findall(" (..)[^ ]+ words",x)]}.\n{w}{r}?"'
