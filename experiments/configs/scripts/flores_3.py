x=x[10:-8]
i=iter(r'''(.*?) was (.*?) because (.*?)
\3, so \1 was \2
(.*?) (.*?) after (\w+) (.*?)
\1 \4 before \3 \2
(.*?) (.*?) before (\w+) (.*?)
\1 \4 after \3 \2
(.*?) (.*?) (.*?) to (.*?)
\1 \2 \4 \3'''.split('\n'))
for p in i:x=re.sub(p+r'\.\n',next(i)+'.',x)
x
