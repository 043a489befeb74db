from train.journal import *
