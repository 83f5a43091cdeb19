'#### %d'%eval('+'.join(re.findall(r'\d+',x)))
