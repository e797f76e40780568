from tl.report.zzb import B
A=1
