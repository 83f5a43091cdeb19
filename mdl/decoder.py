from sys import argv
from mdl.machine import run
run(*argv[1:])
