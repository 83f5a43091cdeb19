''in re.findall('(e. |it was |r.m |s .o. )?(?:p.t|u.l|sca|dir|ace|bor|cr|wet|o.r|ba|awa)|it was |r.m |s .o. ',x)and'bad'or'good'
