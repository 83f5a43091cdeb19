['positive','negative'][re.search(' n|oo |less|bad|ck|thin| plo|s lik|cli| mis',x)!=None]
