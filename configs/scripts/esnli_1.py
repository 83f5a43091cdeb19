'The answer is '+['neutral','entailment'][re.search(r'( [bghlprsyz]\w+).*\n.*\1',x)!=None]
