'#### %d'%abs(eval('+-'[re.search(r're |s\.|r i|By',x)!=None].join(re.findall(r'\d+',x))))
