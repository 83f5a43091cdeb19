d={w:i for i,w in enumerate('. to and was a , the She it Lily He want saw with Tim play big her she in had his he very mom day but like One It'.split())}
k=len(d)
M=[(ord(c)-35)//2**i%2*2-1 for c in r"#U5O\766Q<1C$W_U:M&:]7-K9/+P<WWZ4,SG-UR6')G&:#MSH]C4'Y[M5#M8CUH8Y-X7G45S:?;a:L*A`V-,9)R>K<K2.,ZYX43U?,ZN]6SHI8DD/>7W?Q]:TMB+@[/0SVP=R@:%6N'<]O@WUKIM8VbbbbbW<^16^&4S_]4W4`_TUOa_#M@a_H4:W3%D06R9G>:%Qa23*4#a?IBDQ8-VbJ`*ZM?4)[Q?=])?F3ZZC9@O+L^6SK\Jb`[4W9MPWL\Q8/U?,8)\b:`=[4R.=@B/O]JV_-N09RJ]$>AObJVEG]W_ "for i in range(6)]
t=lambda s,n=0:{d[w[:4]]+n for w in re.findall(r'\w+|[.!?,"]',s)if w[:4]in d}
def f(x,o):return max(o,key=lambda e:sum(M[p*k+q]for p in t(x)|t(re.split('[.!?]',x)[-2],k)for q in t(e))+11*(sum(w[:4]in x for w in re.findall(r'\w{5,}',e))+2*((' a 'in x[-40:])*(' it'in e)+('ark'in x)*('saw'in e))+3*(sum(n in e for n in re.findall(r'named (\w+)',x))-sum((w in x)*(w in e)for w in('ut ','nted','happy','very'))-('saw'in x[-60:])*('saw'in e)-('ne d'in x)*('iked'in e))))
