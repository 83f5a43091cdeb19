x=x[10:-8]
i=iter(re.sub(r'(\d)',r'\\\1',r'''It * that * * *
2 did not 3 4
* asked if * * *
"Did 2 3 4?" asked 1
* asked * to *
"Please 3, 2," said 1
* is not as * a.*
3 is 2er than 1
* is *er than *
3 is not as 2 as 1
* had *, so (s?he) *
1 4 because 3 had 2
* had *, so.*
3 because 1 had 2
* was *becaus. (s?he) *
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
There is * (in|on) the *
The 3 has 1 2 it
* said tha. * \w+ *
"2 has 3," said 1
* has \w+ *\.* it
3 1's 2
There w\w+ * (in|on) the *
The 3 had 1 2 it
* (is|are) *. \w+ *
1, who 4, 2 3
* has \w+*. \w+ *
1's two 2 3
* * * to *
1 2 4 3
* * the * (an?) *
1 2 4 5 to the 3
* * w\w+ * by *
4 3 1 2
* so * that * c.+uld not * \w+
1 too 2 for 3 to 4'''.replace('*','(.*?)')).split('\n'))
for p in i:x=re.sub(p+r'\.\n',next(i)+'.',x)
x
