from .catalogue import check as check
from .catalogue import statements as statements
from .goal import Outcome as Outcome
from .proof import Finding as Finding
from .statement import Hypothesis as Hypothesis
from .statement import Statement as Statement
from .statement import Verdict as Verdict
from .statement import Wording as Wording
