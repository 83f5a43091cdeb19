x=x[10:-9]
for p in r"""(\w+) told (\w+) to (.)(.*)\.~"#\3\4, \2!" said \1.""".split('\n'):
 x=re.sub(*p.split('~'),x)
re.sub('#.',lambda m:m[0][1].upper(),x)
