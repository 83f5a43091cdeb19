c=lambda t:sum(w in x for w in t.split(','))
['negative','positive'][c(' en, ple,ami,arm,bes,br,doc,eau,eep,eli,fas,fu,goo,hil,lli,lov,man,mar,oli,reat,rf,rt,ye')-c(" ?, lac, mis, or , ov,ad ,bad,cli,dio,dul,eem,he mov,less,n',nfu,o m,oo ,plo,ppo,pt ,s l,s n,thin,tire,too,was,wors")>0]
