x=x[10:-8]
i=iter(r'''* had *, so (s?he) *
\1 \4 because \3 had \2
* had *, so *
\3 because \1 had \2
* * after (\w+) *
\1 \4 before \3 \2
* was *because (s?he) *
\1 \4, so \3 was \2
* was * because *
\3, so \1 was \2
* * before (\w+) *
\1 \4 after \3 \2
* so * that * .+t * \w+
\1 too \2 for \3 to \4
* said that (s?he) *
"I \3," said \1
* * the * (a?) *
\1 \2 \4 \5 to the \3
* said t\w+ * \w+ *
"\2 has \3," said \1
There w\w+ * (in|on) the *
The \3 had \1 \2 it
* * * t. *
\1 \2 \4 \3'''.replace('*','(.*?)').split('\n'))
for p in i:x=re.sub(p+r'\.\n',next(i)+'.',x)
x
