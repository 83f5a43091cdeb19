x=x[10:-8]
i=iter(re.sub(r'(\d)',r'\\\1',r'''It * that * * *
2 did not 3_ 4
Did * * *. Yes
Yes, 1 2^ 3
* asked if * * *
"Did 2 3_ 4?" asked 1
* asked * to *
"Please 3, 2," said 1
* is not as * as *
3 is 2_er than 1
* is *er than *
3 is not as 2^ as 1
This *.belongs to *
This is 2's 1
These *.belong to *
These are 2's 1
There is * (in|on) the *
The 3 has 1 2 it
Y.+, * * *
Tomorrow, 1 will 2_ 3
* has two *. They *
1's two 2 3
* had *, so (s?he) *
1 4 because 3 had 2
* had *, so *
3 because 1 had 2
* was * because (s?he) *
1 4, so 3 was 2
* was * because *
3, so 1 was 2
* to.d * to *
"3, 2!" said 1
* * after (\w+) *
1 4 before 3 2
* said that (s?he) *
"I 3," said 1
* * before (\w+) *
1 4 after 3 2
* so * that * could not * \w+
1 too 2 for 3 to 4
* said tha. * \w+ *
"2 has 3," said 1
* has \w+ *\. * it
3 1's 2
"Can I have *." asked *
2 asked if she could have 1
"I * *," said *
3 said that she 1^ 2
"We * *," said *
3 said that they 1^ 2
"This is my *," said *
2 said that it was her 1
There w\w+ * (in|on) the *
The 3 had 1 2 it
One * is *
Two 1s^ are 2
One * .as *
Two 1s^ were 2
* (is|are) *. \w+ *
1, who 4, 2 3
* * w\w+ * by *
4 3^ 1_ 2
* (w.th Mo|after|at|o|in the m|e.+y)*
23, 1
* * (some|many|t.o|three) *
3 4 were 2+ by 1
* * (an?) * in *
3 4 was 2+ by 1 in 5
* .nd * * the *
the 4 was 3+ by 1 and 2
* * * to *
1 2 4 3
* * * the *
1 2 the 4 to 3
* * the * (an?) *
1 2 4 5 to the 3'''.replace('*','(.*?)')).split('\n'))
for p in i:x=re.sub(p+r'\.\n',next(i)+'.',x)
x=re.sub(r'(\w+)([_^+])',lambda m:re.search(fr'.*\b{(v:=m[1].lower())}.*','''find found
sell sold
see saw seen
forget forgot forgotten
lose lost
catch caught
take took taken
hide hid hidden
make made
throw threw thrown
draw drew drawn
keep kept
'''+(v+' ')*2)[0].split()['_^'.find(m[2])],x)
re.sub('^"?.',lambda m:m[0].upper(),x)
