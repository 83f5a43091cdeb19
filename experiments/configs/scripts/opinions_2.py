''in re.findall('(e. |o. )?(?:awa|fa|ba|cr|n..i|c.l|h.m|d.r|s.u|s.a)',x)and'bad'or'good'
