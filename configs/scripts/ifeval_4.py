j=''.join
f=re.findall
j(f(r'\. .*[he] ([A-Z]\w+)',x))+' '+re.sub(r'\W+',' ',x.lower())+'. a'*len(f('two|thr|ee s',x))+' '+j(f(r'nd with .*?(\w+)\.',x)+f(r'(\w+) the l',x))
