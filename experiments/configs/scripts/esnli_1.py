'the answer is '+(re.search(r'(...).*\n.*\1\.',x)and'entailment'or'neutral')
