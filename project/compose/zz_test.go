package compose
import ("testing";"context")
func BenchmarkLarge(b *testing.B){ for b.Loop(){ if _,_,err:=Load(context.Background(),Options{WorkingDir:"/tmp/tiny/big"});err!=nil{b.Fatal(err)}}}
