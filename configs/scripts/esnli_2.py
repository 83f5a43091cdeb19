'The answer is '+['neutral','entailment'][re.search(r'( (?!a)\w+\b).*\n.*(is|ls| a|the)\1',x)!=None]
