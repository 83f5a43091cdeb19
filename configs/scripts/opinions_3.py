s=x.split('but')[-1]
['good','bad'][(re.search('dir|sc|rud|dar|bor|yuc|ang|mea|itt|col|ugl|bro|lou|sour',s)==None)==(re.search('s not|k it',s)!=None)]
