x=re.sub(r'\w+ (lost|found|gave \w+|has|is) \d+ \w+[^re]( old)?\. ','',x)
'#### %d'%abs(eval('+-'[re.search(r're |d a|A |By|ny l|e r|her\.|em',x)!=None].join(re.findall(r'\d+',x))))
