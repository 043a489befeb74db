from train.lock import *
