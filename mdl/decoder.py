from sys import argv
from mdl.execution import run
run(*argv[1:])
