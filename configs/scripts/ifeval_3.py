''.join(re.findall(r'\. .*[he] ([A-Z]\w+)',x))+' '+x.lower()+' '+''.join(re.findall(r'(?<=nd with).*?(?=\.)|\S+(?= the l)',x))
