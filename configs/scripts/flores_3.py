x=x[10:-9]
for p in r"""so (\w+) that (.*) could not (\w+) it~too \1 for \2 to \3
(\w+) (.*) before (he|she) (.*)\.~\1 \4 after \3 \2.
(\w+) told (\w+) to (.)(.*)\.~"#\3\4, \2!" said \1.""".split('\n'):
 x=re.sub(*p.split('~'),x)
re.sub('#.',lambda m:m[0][1].upper(),x)
