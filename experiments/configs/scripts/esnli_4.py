a,r,n=[b'nn,n=tritn=??ritniiiin?nrtnri=....i.nn,'[int(w,36)%217%40]for w in re.findall(r' is .*?(\w+) ?[.,w]',x)];'the answer is '+['entailment','contradiction','neutral'][(a!=n!=r)+(a^n>7<r^n)]
