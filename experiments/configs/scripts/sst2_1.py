['positive','negative'][re.search(' n|oo |less',x)!=None]
