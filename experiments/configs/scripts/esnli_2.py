*a,n=['3r3r3rrrrr] nnn nn[nrrrrnii3nn[n]ir][nnrnin'[int(w,36)%43]for w in re.findall(' is (...)',x)];'the answer is '+(n in a and'entailment'or'neutral')
