from train.unreadable import *
