from samples import *
