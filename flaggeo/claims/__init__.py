"""What the papers claim of training, each claim a record that experiments judge."""

from .catalogue import claims as claims
from .catalogue import experiments as experiments
from .claim import Case as Case
from .claim import Claim as Claim
from .claim import Reference as Reference
from .experiment import Experiment as Experiment
from .experiment import Size as Size
from .judgement import Judgement as Judgement
from .judgement import Outcome as Outcome
from .judgement import Verdict as Verdict
from .judgement import judge as judge
from .reproduction import Reproduction as Reproduction
from .reproduction import reproduce as reproduce
