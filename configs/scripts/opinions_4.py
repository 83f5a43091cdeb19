s=x.split('but')[-1]
b='dir|sca|rud|dar|bor|yuc|ang|mea|bitt|col|ugl|bro|lou|sour'
n=re.search('(s not|k it was)( ('+b+'))?',s)
['good','bad'][n[2]==None if n else re.search(b+'|awa|back|sic|cri|fac|want it|hom|eat i|sad',s)!=None]
