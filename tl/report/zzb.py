from tl.report.zza import A
B=1
