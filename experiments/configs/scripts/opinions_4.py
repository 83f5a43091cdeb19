''in re.findall('([hs]t it was |e. |s.not |k it was |er |rom )?(?:dir|s.ary|lou|bor|ang|mean|s.u|fac| c.i|spa|bad|ot l|dar| hi|yuc|bac| ea|u.l|wet)|s.not |k it was |er |rom ',x)and'bad'or'good'
