x=x[10:-9]
for p in r"""There is (.*) in the (.*)\.~The \2 has \1 in it.
There was (.*) on the (.*)\.~The \2 had \1 on it.
^(\w+ (?:walk|went|came|ran|play).*) ((with|at|every|in|after|on) .*)\.~#\2, \1.
(gave|threw|showed|brought) (.*) to (.*)\.~\1 \3 \2.
^(\w+ and \w+) (\w+) (the .*)\.~#\3 was \2 by \1.
^(\w+) (lost|\w+) (an? .*) ((in|on|at) .*)\.~#\3 was \2 by \1 \4.
This (.*) belo.*to (.*)\.~This is \2's \1.
(\w+) is (.*)er than (.*)\.~\3 is not as \2 as \1.
so (\w+) that (.*) could not (\w+) it~too \1 for \2 to \3
(\w+) (was \w+) because (he|she) (.*)\.~\1 \4, so \3 \2.
(\w+ was \w+) because (.*)\.~\2, so \1.
(\w+) (.*) before (he|she) (.*)\.~\1 \4 after \3 \2.
(\w+) told (\w+) to (.)(.*)\.~"#\3\4, \2!" said \1.
"Can I have (.*)\?" asked (.*)\.~\2 asked if ^ could have \1.
"I (\w+) (.*)," said (.*)\.~\3 said that ^ \1ed \2.
(\w+[mxnbk]|Ti.*) (.*)\^~\1 \2he
\^~she""".split('\n'):
 x=re.sub(*p.split('~'),x)
re.sub('#.',lambda m:m[0][1].upper(),x)
