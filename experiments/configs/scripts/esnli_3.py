a,r,n=[b'tnrnni.nnni)nn!).nnn.nnnc trccnni ninannana'[int(w,36)%43]for w in re.findall(' is (...)',x)];'the answer is '+['entailment','contradiction','neutral'][(a!=n!=r)+(a^n>7<r^n)]
