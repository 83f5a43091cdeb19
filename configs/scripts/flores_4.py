x=x[10:-9]
for p in r"""This (.*) belo.*to (.*)\.~This is \2's \1.
(\w+) is (.*)er than (.*)\.~\3 is not as \2 as \1.
so (\w+) that (.*) could not (\w+) it~too \1 for \2 to \3
(\w+ was \w+) because (.*)\.~\2, so \1.
(\w+) (.*) before (he|she) (.*)\.~\1 \4 after \3 \2.
(\w+) told (\w+) to (.)(.*)\.~"#\3\4, \2!" said \1.""".split('\n'):
 x=re.sub(*p.split('~'),x)
re.sub('#.',lambda m:m[0][1].upper(),x)
