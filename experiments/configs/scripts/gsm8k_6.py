def h(x):
 *S,q=x[10:-11].split('. ')
 m=re.search
 y=m(r'(\w+) (have|start)|$',q)[1]or'~'
 t=q[9:12]
 if m('(many|more|less) (are|did|do|is) |By',q):t=0
 O=m('old |years',q)
 T=''
 for s in S:
  s=re.sub(r'\b([Ss]?[Hh]e|him|her)\b(?! bag)',y,s)
  w=m(r'(has|lost|found|gave \w+) \d+ (?!less|more)(\w\w\w)\w*$',s)
  if m(r'\d',s)and not m(r'too$|on the bed|saw .* before that|ate \d+ \w+ then',s)and(O or not m('years? old$',s))and not(t and w and w[2]!=t):T+=s+'. '
 n=[*map(int,re.findall(r'\d+',T))]
 if O:n=n[-2:]
 if'are not'in q:return n[-3]-n[-2]-n[-1]
 if'do they have'in q:return n[-3]+n[-2]+n[-1]*(-1 if'from them'in T else 1)
 a,b=n[-2:]
 if'together'in q and m(r'\d (more|less)',T):return a+(a+b if'more'in T else a-b)
 d=abs(a-b)
 if m(r'rs older is|By|many (more|less)|many are (?!left|ther|in)',q)or m(r'\d of the|rest|full box has|other ones|some and|noon and \d+ (ar|is)|(has \d+ \w+|,.*) more|^(?!.*(has \d+ \w+|,.*) less).*less|\d+ \w+ and \w+ \w+( in all)?\. \d|^\w+ and \w+ \w+ \d',T):return d
 if m(r'less|\d more|older|other|\d at home|(did they|is that|wants|more for)| ones?\.| ate.*left',T+q):return a+b
 g=lambda s:m(y+r' (ga|hand|th|br|s|le|lo|u|put .* in(?! '+y+r'|.*h[ei][rs]))|from '+y+r'|fell o|used|ook \d to |\b[aA] \w+ took|went|off|(go|le).* out|left for',s)
 if not n[2:]:return d if bool(g(T))!=bool(m("did|were",q))else a+b
 r=n[0]
 P=T.split('. ')
 for c,s in zip(n[1:],P[1:]):r+=-c if g(s)else c
 return r
def f(x,o):
 return '#### %s'%h(x)
