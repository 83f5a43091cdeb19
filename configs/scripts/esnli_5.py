r='neutral'
for c in'red|blu|gre|yel|pin','big|lit','py|sad','sch|far|each|ark|ore|zoo':
 a=re.findall(c,x)
 if a[1:]:r=['contradiction','entailment'][a[0]==a[1]]
'The answer is '+r
