from train.trainable import *
