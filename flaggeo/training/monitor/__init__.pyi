from .lightning_callback import LightningMonitor as LightningMonitor
from .monitor import Monitor as Monitor
from .records import is_monitored as is_monitored
from .traced import monitored_trace as monitored_trace
from .trainer_callback import TrainerMonitor as TrainerMonitor
