['good','bad'][re.search('ra|ud|di',x)!=None]
