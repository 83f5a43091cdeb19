['positive','negative'][re.search(' n|oo |less|bad|ck|thin| plo|s lik|cli| mis|wors|jok|dull|pid|run|fail|bee|dio| bor| onl',x)!=None]
