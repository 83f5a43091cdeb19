re.search('ot |cr|fa| .c|t i|awa',x)and'bad'or'good'
