t=re.search(r'How many (?!are|d|mo|le)(\w\w\w)|$',x)[1]or r'\w'
x=re.sub(r'\w+ (lost|found|gave \w+|has|ate|saw|is) \d+ (?!'+t+r')\w+( old| too| then| before that)?\. |There .* bed\. ','',x)
'#### %d'%abs(eval('+-'[re.search(r'older is|By|ny (more|less)|ny are [^lti]|d of|rest|A full|r ones|me and|noon and \d+ (ar|is)|(has \d+ \w+|,.*) more|^(?!.*(has \d+ \w+|,.*) less).*less|n: \w+ and|and [a-z]+ \w+\. \d',x)!=None].join(re.findall(r'\d+',x))))
