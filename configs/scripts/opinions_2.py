['good','bad'][re.search('dir|sc|rud|dar|bor|yuc|ang|mea|itt|col|ugl|bro|lou|sour',x.split('but')[-1])!=None]
