x.lower()+' '+''.join(re.findall(r'(?<=nd with).*?(?=\.)| \S+(?= the l)',x))
